#include "platform/memory.h"

#include <algorithm>

#include "platform/no_memory.h"
#include "platform/pages.h"

// Under AddressSanitizer, memory that is not allocated to an array is poisoned.
#if defined(__SANITIZE_ADDRESS__)
#define RECURRA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RECURRA_ASAN 1
#endif
#endif
#if defined(RECURRA_ASAN)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, size) ((void)(data), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(data, size) ((void)(data), (void)(size))
#endif

namespace recurra {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kPage = 4096;
constexpr size_t kSmallestChunk = 4 * kPage;
constexpr size_t kBigArray = 4 * kPage;
constexpr size_t kStagger = 5 * kLine;  // a page has 64 lines, so page offsets repeat after 64 large arrays
constexpr size_t kLargest = size_t(-1) / 4;
#if defined(RECURRA_ASAN)
constexpr size_t kRedZone = kLine;
#else
constexpr size_t kRedZone = 0;
#endif

size_t round_up(size_t size, size_t multiple) { return (size + multiple - 1) / multiple * multiple; }

// An array's bytes with padding. Depends on `size` alone, so that arrays of several chunks fit into one merged chunk.
size_t span(size_t size) {
  return size < kBigArray ? round_up(std::max<size_t>(size, 1), kLine) + kRedZone : round_up(size, kPage) + kStagger;
}

class HostMemory final : public MemorySource {
 public:
  char* take(size_t size, size_t alignment) override {
    return size >= kHugePage ? map_huge(size) : take_aligned(size, alignment);
  }
  void give_back(char* data, size_t size) override {
    if (size >= kHugePage)
      unmap_huge(data, size);
    else
      free_aligned(data);
  }
};

class NoMemorySource final : public MemorySource {
 public:
  char* take(size_t, size_t) override { return nullptr; }
  void give_back(char*, size_t) override {}
};

}  // namespace

MemorySource& host_memory() {
  static HostMemory* const memory = new HostMemory();  // outlives every arena
  return *memory;
}

void Arena::Free::operator()(char* data) const {
  ASAN_UNPOISON_MEMORY_REGION(data, size);
  source->give_back(data, size);
}

Arena Arena::over(char* data, size_t size) {
  static NoMemorySource* const nothing = new NoMemorySource();  // outlives every arena
  Arena arena(*nothing);
  arena.fixed_ = true;
  arena.chunks_.emplace_back(data, Free{size, nothing});
  return arena;
}

void* Arena::take_bytes(size_t size) {
  if (size > kLargest) throw NoMemory::of_bytes(size);
  const size_t cost = span(size);
  counts_ = counts_ || (fixed_ && cost > chunks_.back().get_deleter().size - offset_);
  if (counts_) {
    used_ += cost;
    return reinterpret_cast<void*>(kPage);  // never dereferenced; arithmetic on null would be undefined
  }
  // Chunks grow geometrically, so that many arrays need few chunks.
  if (chunks_.empty() || cost > chunks_.back().get_deleter().size - offset_) {
    add_chunk(std::max({cost, bytes() / 2, kSmallestChunk}));
  }
  char* data = chunks_.back().get() + offset_;
  ASAN_UNPOISON_MEMORY_REGION(data, size);
  offset_ += cost;
  used_ += cost;
  return data;
}

void Arena::add_chunk(size_t size) {
  const size_t unit = size >= kHugePage ? kHugePage : kLine;
  size = round_up(size, unit);
  chunks_.reserve(chunks_.size() + 1);  // may throw, so it comes before the allocation
  char* data = source_->take(size, unit);
  if (data == nullptr) throw NoMemory::of_bytes(size);
  ASAN_POISON_MEMORY_REGION(data, size);
  chunks_.emplace_back(data, Free{size, source_});
  offset_ = 0;
}

void Arena::reset() {
  const size_t total = bytes();
  offset_ = 0;
  used_ = 0;
  if (chunks_.size() > 1) {
    chunks_.clear();
    add_chunk(total);
  } else if (!chunks_.empty()) {
    ASAN_POISON_MEMORY_REGION(chunks_.back().get(), total);
  }
}

void Arena::rewind(const Mark& mark) {
  chunks_.resize(mark.chunks);
  offset_ = mark.offset;
  used_ = mark.used;
  if (chunks_.empty()) return;
  const Chunk& last = chunks_.back();
  ASAN_POISON_MEMORY_REGION(last.get() + offset_, last.get_deleter().size - offset_);
}

size_t Arena::bytes() const {
  size_t total = 0;
  for (const Chunk& chunk : chunks_) total += chunk.get_deleter().size;
  return total;
}

}  // namespace recurra
