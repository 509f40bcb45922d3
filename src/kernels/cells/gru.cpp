#include "kernels/cells/gru.h"

#include "kernels/cells/kernels.h"

namespace recurra::RECURRA_ISA {
RECURRA_CELL(gru, Gru);
RECURRA_CELL(gru_reset_before, GruResetBefore);
}  // namespace recurra::RECURRA_ISA
