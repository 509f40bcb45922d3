#include "platform/cpu.h"

#include <cstring>

namespace recurra {
namespace {

#if defined(__x86_64__) || defined(__i386__)

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
         __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}

#else

bool has_avx2() { return false; }
bool has_avx512() { return false; }

#endif

}  // namespace

bool cpu_supports(const char* isa) {
  if (std::strcmp(isa, "baseline") == 0) return true;
  if (std::strcmp(isa, "avx2") == 0) return has_avx2();
  if (std::strcmp(isa, "avx512") == 0) return has_avx512();
  return false;
}

}  // namespace recurra
