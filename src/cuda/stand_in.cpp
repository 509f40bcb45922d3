// Linked when CUDA is off.
#include <stdexcept>

#include "device/device.h"

namespace recurra {

template <class T>
const Device<T>& cuda_device() {
  throw std::runtime_error("cuda: this build has no CUDA");
}
template const Device<float>& cuda_device();
template const Device<double>& cuda_device();

}  // namespace recurra
