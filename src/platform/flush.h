// Arithmetic on subnormals is tens of times slower, and decaying states and gradients reach them: native calls flush
// them to zero.
#pragma once
#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace recurra {

// Sets flush-to-zero and denormals-are-zero for this thread; the destructor restores the caller's floating-point mode.
// No effect on architectures other than x86 with SSE and AArch64.
class FlushScope {
 public:
  FlushScope() : saved_(read()) {
    if ((saved_ & kFlush) != kFlush) write(saved_ | kFlush);
  }
  ~FlushScope() {
    if ((saved_ & kFlush) != kFlush) write(saved_);
  }
  FlushScope(const FlushScope&) = delete;
  FlushScope& operator=(const FlushScope&) = delete;

 private:
#if defined(__SSE__)
  static constexpr uint64_t kFlush = 0x8040;  // MXCSR: flush to zero (results), denormals are zero (operands)
  static uint64_t read() { return _mm_getcsr(); }
  static void write(uint64_t mode) { _mm_setcsr(static_cast<unsigned>(mode)); }
#elif defined(__aarch64__)
  static constexpr uint64_t kFlush = 1 << 24;  // FPCR.FZ: operands and results
  static uint64_t read() {
    uint64_t mode;
    asm volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
  }
  static void write(uint64_t mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
#else
  static constexpr uint64_t kFlush = 0;
  static uint64_t read() { return 0; }
  static void write(uint64_t) {}
#endif

  uint64_t saved_;
};

}  // namespace recurra
