#pragma once
#include "bindings/handles.h"

namespace recurra::bindings {

// The memory of a tape that has not been closed: as long as it is held, what lies there may be read, whatever Python
// code runs meanwhile, a finaliser that closes the tape among it.
template <class T>
auto open_memory(const Tape<T>& tape) {
  check(!tape.closed(), tape.program().name().c_str(), "the tape is closed; record again");
  return tape.memory();
}

}  // namespace recurra::bindings
