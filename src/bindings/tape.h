#pragma once
#include "bindings/handles.h"

namespace recurra::bindings {

// The memory of an open tape. While it is held, the memory stays valid, even if Python code that runs meanwhile, such
// as a finaliser, closes the tape.
template <class T>
auto open_memory(const Tape<T>& tape) {
  check(!tape.closed(), tape.program().name().c_str(), "the tape is closed; record again");
  return tape.memory();
}

}  // namespace recurra::bindings
