#include "cells/lstm.h"

#include "cells/kernels.h"

namespace recurra::RECURRA_ISA {
RECURRA_CELL(lstm, Lstm);
}
