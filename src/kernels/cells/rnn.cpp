#include "kernels/cells/rnn.h"

#include "kernels/cells/kernels.h"

namespace recurra::RECURRA_ISA {
RECURRA_CELL(rnn_tanh, Rnn<RnnTanh>);
RECURRA_CELL(rnn_relu, Rnn<RnnRelu>);
RECURRA_CELL(rnn_sigmoid, Rnn<RnnSigmoid>);
}  // namespace recurra::RECURRA_ISA
