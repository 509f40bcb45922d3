// The table of the instruction set in use.
#pragma once
#include <string>
#include <vector>

#include "kernels/cells/table.h"

namespace recurra {

// Chosen once: the best one that runs here, or the one that RECURRA_ISA names; throws std::invalid_argument if that is
// unknown or does not run here.
const IsaTable& isa();

template <class T>
const Kernels<T>& kernels();

// Which instruction sets are built, which run here, which one does.
std::vector<std::string> built_isas();
std::vector<std::string> supported_isas();
const char* isa_name();

}  // namespace recurra
