#include <cstdlib>

#include "platform/pages.h"

#if defined(_WIN32)
#include <malloc.h>
#endif

namespace recurra {

#if defined(_WIN32)
char* take_aligned(size_t size, size_t alignment) { return static_cast<char*>(_aligned_malloc(size, alignment)); }
void free_aligned(char* data) { _aligned_free(data); }
#else
char* take_aligned(size_t size, size_t alignment) { return static_cast<char*>(std::aligned_alloc(alignment, size)); }
void free_aligned(char* data) { std::free(data); }
#endif

char* map_huge(size_t size) { return take_aligned(size, kHugePage); }
void unmap_huge(char* data, size_t) { free_aligned(data); }

}  // namespace recurra
