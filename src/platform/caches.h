// Sizes of the processor's data caches, which the plans of products follow. No result depends on them.
#pragma once
#include <stddef.h>

namespace recurra {

struct Caches {
  ptrdiff_t l1, l2;  // bytes, of one core
  // Whether weights of so many bytes, which every step reads, come from beyond the second level.
  __attribute__((always_inline)) bool far(ptrdiff_t bytes) const { return bytes > l2 / 2; }
};

// The machine's, or those that set_caches() gave.
Caches caches();
// Plans for another machine from now on; {}: for this one again.
void set_caches(Caches sizes);

}  // namespace recurra
