// Memory of scratch arrays and tapes: many allocations, freed together.
#pragma once
#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace recurra {

// Where arenas allocate their chunks.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  // Allocates `size` bytes, a multiple of `alignment`. Null on failure.
  virtual char* take(size_t size, size_t alignment) = 0;
  virtual void give_back(char* data, size_t size) = 0;
};
MemorySource& host_memory();

// A bump allocator. Arrays are aligned to 64 bytes and not initialised. Large arrays get different offsets within a
// 4 KiB page, since loads and stores of equal page offsets alias (4K aliasing). The destructor frees the memory, and
// reset() merges several chunks into one: calls of one shape on one arena stop allocating after the first reset.
class Arena {
 public:
  explicit Arena(MemorySource& source = host_memory()) : source_(&source) {}
  // A dry run: used() counts the bytes of arrays, which have no memory and must be neither read nor written.
  static Arena counting() {
    Arena arena;
    arena.counts_ = true;
    return arena;
  }
  // In `size` bytes of the caller's, at a multiple of kAlignment. When they are used up, it goes on as a dry run.
  static constexpr size_t kAlignment = 64;
  static Arena over(char* data, size_t size);
  Arena(Arena&& other) noexcept { *this = std::move(other); }
  Arena& operator=(Arena&& other) noexcept {
    source_ = other.source_;
    chunks_ = std::exchange(other.chunks_, {});
    offset_ = std::exchange(other.offset_, 0);
    used_ = std::exchange(other.used_, 0);
    counts_ = other.counts_;
    fixed_ = other.fixed_;
    return *this;
  }

  // Allocates n elements of T; throws std::bad_alloc on failure.
  template <class T>
  T* take(size_t n) {
    static_assert(std::is_trivial<T>::value && alignof(T) <= 64, "the arena neither constructs nor destroys");
    if (n > size_t(-1) / sizeof(T)) throw std::bad_alloc();
    return static_cast<T*>(take_bytes(n * sizeof(T)));
  }

  // Invalidates all arrays. May throw std::bad_alloc; the arena is empty then.
  void reset();

  // rewind() invalidates all arrays taken since mark(), and frees the chunks added for them.
  struct Mark {
    size_t chunks, offset, used;
  };
  Mark mark() const { return {chunks_.size(), offset_, used_}; }
  void rewind(const Mark&);

  size_t bytes() const;                  // allocated from the system
  size_t used() const { return used_; }  // taken since the last reset, with gaps between arrays

 private:
  struct Free {
    size_t size;
    MemorySource* source;
    void operator()(char* data) const;
  };
  typedef std::unique_ptr<char, Free> Chunk;

  void* take_bytes(size_t size);
  void add_chunk(size_t size);

  MemorySource* source_;
  std::vector<Chunk> chunks_;  // arrays are allocated from the last one
  size_t offset_ = 0;          // of the next array in the last chunk
  size_t used_ = 0;
  bool counts_ = false;
  bool fixed_ = false;  // to one chunk
};

}  // namespace recurra
