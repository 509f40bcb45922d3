// One row of a CTC loss, as it crosses the border between the code compiled once and the code compiled per ISA.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace recurra {

template <class T>
struct CtcCall {
  ptrdiff_t steps, symbols, blank;
  const T* logits;
  ptrdiff_t logits_step;
  const int64_t* target;  // symbols other than the blank
  ptrdiff_t labels;       // how many
  T* gradient;            // null: not wanted
  ptrdiff_t gradient_step;
  T* scratch;
};

}  // namespace recurra
