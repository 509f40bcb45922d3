// Linked when CUDA is off.
#include <stdexcept>

#include "backend/backend.h"

namespace recurra {

template <class T>
const Backend<T>& cuda_backend() {
  throw std::runtime_error("cuda: this build has no CUDA backend");
}
template const Backend<float>& cuda_backend();
template const Backend<double>& cuda_backend();

}  // namespace recurra
