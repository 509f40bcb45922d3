// What the CTC kernel is given: its numbers, and when to give up.
#pragma once
#include "kernels/rows/ctc_call.h"
#include "platform/parallel.h"

namespace recurra {

// The kernel takes its CtcCall for the base of one of these.
template <class T>
struct CtcRowCall : CtcCall<T> {
  Stop* stop;  // null: do not poll
};

}  // namespace recurra
