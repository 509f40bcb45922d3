// What the processor can run.
#pragma once

namespace recurra {

// True if code compiled for `isa` runs here: "baseline" (always), "avx2" (with FMA and BMI) or "avx512" (F, VL, BW and
// DQ on top of that), the operating system saving the wide registers. An unknown name is not supported.
bool cpu_supports(const char* isa);

}  // namespace recurra
