// Memory from the system.
#pragma once
#include <cstddef>

namespace recurra {

constexpr size_t kHugePage = size_t{2} << 20;

// `size` bytes, a multiple of `alignment`; null on failure.
char* take_aligned(size_t size, size_t alignment);
void free_aligned(char* data);

// The same in whole huge pages, where the system has them.
char* map_huge(size_t size);
void unmap_huge(char* data, size_t size);

}  // namespace recurra
