#include "platform/cpu.h"

#include <cstring>

namespace recurra {

bool cpu_supports(const char* isa) {
  const auto is = [isa](const char* name) { return std::strcmp(isa, name) == 0; };
#if defined(__aarch64__)
  return is("neon");
#else
  if (is("baseline")) return true;
#if defined(__x86_64__) || defined(__i386__)
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi") &&
                        __builtin_cpu_supports("bmi2");
  if (is("avx2")) return has_avx2;
  if (is("avx512"))
    return has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
#endif
  return false;
#endif
}

}  // namespace recurra
