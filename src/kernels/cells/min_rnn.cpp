#include "kernels/cells/min_rnn.h"

#include "kernels/cells/kernels.h"

namespace recurra::RECURRA_ISA {
RECURRA_CELL(min_gru, MinGru<false>);
RECURRA_CELL(min_gru_positive, MinGru<true>);
RECURRA_CELL(min_lstm, MinLstm<false>);
RECURRA_CELL(min_lstm_positive, MinLstm<true>);
}  // namespace recurra::RECURRA_ISA
