// Detection of instruction sets.
#pragma once

namespace recurra {

// True if the processor and the operating system support `isa`: "neon" on 64-bit ARM; elsewhere "baseline" (always),
// "avx2" (AVX2, FMA, F16C and BMI) or "avx512" (these and AVX-512 F, VL, BW and DQ). False for an unknown name.
bool cpu_supports(const char* isa);

}  // namespace recurra
