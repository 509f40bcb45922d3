#include "cpu/isa.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "device/device.h"
#include "platform/cpu.h"
#include "platform/error.h"

namespace recurra {

// RECURRA_ISAS comes from CMake: X(name) for each, best first.
#define X(name)                \
  namespace name {             \
  extern const IsaTable table; \
  }
RECURRA_ISAS
#undef X

namespace {

#define X(name) &name::table,
constexpr const IsaTable* kTables[] = {RECURRA_ISAS};
#undef X

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

const IsaTable& choose() {
  const char* forced = std::getenv("RECURRA_ISA");  // NOLINT(concurrency-mt-unsafe): once, at import
  if (!forced || !*forced) {
    for (const IsaTable* table : kTables)
      if (cpu_supports(table->name)) return *table;
    fail("recurra", "this processor runs none of the instruction sets built in: " + joined(built_isas()));
  }
  for (const IsaTable* table : kTables) {
    if (std::string(forced) != table->name) continue;
    check(cpu_supports(table->name), "RECURRA_ISA", "this processor does not run '", forced,
          "'; it runs: ", joined(supported_isas()));
    return *table;
  }
  fail("RECURRA_ISA", "unknown instruction set '" + std::string(forced) + "'; this build has: " + joined(built_isas()));
}

}  // namespace

const IsaTable& isa() {
  static const IsaTable& table = choose();
  return table;
}

template <>
const Kernels<float>& kernels() {
  return *isa().f32;
}
template <>
const Kernels<double>& kernels() {
  return *isa().f64;
}

const char* isa_name() { return isa().name; }

std::vector<std::string> built_isas() {
  std::vector<std::string> names;
  for (const IsaTable* table : kTables) names.push_back(table->name);
  return names;
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const IsaTable* table : kTables)
    if (cpu_supports(table->name)) names.push_back(table->name);
  return names;
}

}  // namespace recurra
