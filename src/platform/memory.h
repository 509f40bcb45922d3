// Scratch memory and tapes: many arrays, taken one after the other, forgotten together.
#pragma once
#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace recurra {

// Where arenas have their memory from.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  // `size` bytes, a multiple of the alignment, or null.
  virtual char* take(size_t size, size_t alignment) = 0;
  virtual void give_back(char* data, size_t size) = 0;
};
MemorySource& host_memory();

// A bump allocator. Arrays begin at multiples of 64 bytes and are not initialised; big ones begin at different offsets
// within a 4 KiB page, since equal ones make loads wait for unrelated stores. Memory goes back with the arena, or when
// reset() replaces several chunks by one: calls of the same shape on one arena stop allocating after the first reset.
class Arena {
 public:
  explicit Arena(MemorySource& source = host_memory()) : source_(&source) {}
  // An arena that holds nothing: used() says what arrays take, and they must be neither read nor written.
  static Arena counting() {
    Arena arena;
    arena.counts_ = true;
    return arena;
  }
  Arena(Arena&& other) noexcept { *this = std::move(other); }
  Arena& operator=(Arena&& other) noexcept {
    source_ = other.source_;
    chunks_ = std::exchange(other.chunks_, {});
    offset_ = std::exchange(other.offset_, 0);
    used_ = std::exchange(other.used_, 0);
    counts_ = other.counts_;
    return *this;
  }

  // Room for n elements of T; throws std::bad_alloc if there is none.
  template <class T>
  T* take(size_t n) {
    static_assert(std::is_trivial<T>::value && alignof(T) <= 64, "the arena neither constructs nor destroys");
    if (n > size_t(-1) / sizeof(T)) throw std::bad_alloc();
    return static_cast<T*>(take_bytes(n * sizeof(T)));
  }

  // Forgets all arrays; pointers to them are invalid from here on. May throw std::bad_alloc, and is empty then.
  void reset();

  // Forgets all arrays taken since the mark, and gives back the chunks that were added for them.
  struct Mark {
    size_t chunks, offset, used;
  };
  Mark mark() const { return {chunks_.size(), offset_, used_}; }
  void rewind(const Mark&);

  size_t bytes() const;                  // what the arena holds
  size_t used() const { return used_; }  // what was taken since the last reset, gaps between arrays included

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
  std::vector<Chunk> chunks_;  // arrays are taken from the last one
  size_t offset_ = 0;          // where in it the next array begins
  size_t used_ = 0;
  bool counts_ = false;
};

}  // namespace recurra
