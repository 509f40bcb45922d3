// The loss of a mixture density network.
#pragma once
#include "device/losses.h"

namespace recurra {

template <class T>
double mixture_density(const StepLoss<T>&);

}  // namespace recurra
