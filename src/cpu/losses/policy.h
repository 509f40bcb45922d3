// The loss of a policy, whose actions were drawn from its distribution.
#pragma once
#include "device/losses.h"

namespace recurra {

template <class T>
double policy_loss(const StepLoss<T>&);

}  // namespace recurra
