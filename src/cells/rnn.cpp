#include "cells/rnn.h"

#include "cells/kernels.h"

namespace recurra::RECURRA_ISA {
RECURRA_CELL(rnn_tanh, Rnn<Tanh>);
RECURRA_CELL(rnn_relu, Rnn<Relu>);
RECURRA_CELL(rnn_sigmoid, Rnn<Sigmoid>);
}  // namespace recurra::RECURRA_ISA
