#include "kernels/cells/lstm.h"

#include "kernels/cells/kernels.h"

namespace recurra::RECURRA_ISA {
RECURRA_CELL(lstm, Lstm);
}
