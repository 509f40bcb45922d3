#include <sys/mman.h>

#include <cstdlib>

#include "platform/pages.h"

namespace recurra {

char* take_aligned(size_t size, size_t alignment) { return static_cast<char*>(std::aligned_alloc(alignment, size)); }
void free_aligned(char* data) { std::free(data); }

// Chunks of huge pages are mapped and unmapped whole: freed to malloc they would leave holes too small for the next,
// larger chunk, and the process would keep both.
char* map_huge(size_t size) {
  void* mapped = mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  char* begin = static_cast<char*>(mapped);
  const size_t before = (kHugePage - reinterpret_cast<size_t>(begin) % kHugePage) % kHugePage;
  if (before > 0) munmap(begin, before);
  munmap(begin + before + size, kHugePage - before);
  madvise(begin + before, size, MADV_HUGEPAGE);  // first touches cost a fraction with huge pages
  return begin + before;
}
void unmap_huge(char* data, size_t size) { munmap(data, size); }

}  // namespace recurra
