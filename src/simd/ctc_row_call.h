// What the CTC kernel is given: its numbers, and when to give up.
#pragma once
#include "platform/parallel.h"
#include "simd/ctc_call.h"

namespace recurra {

// The kernel takes its CtcCall for the base of one of these.
template <class T>
struct CtcRowCall : CtcCall<T> {
  Stop* stop;  // null: do not poll
};

}  // namespace recurra
