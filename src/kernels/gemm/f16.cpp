#include "kernels/gemm/f16.h"

namespace recurra::RECURRA_ISA {

RECURRA_STORAGE(f16, F16);

}  // namespace recurra::RECURRA_ISA
