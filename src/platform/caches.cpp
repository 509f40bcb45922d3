#include "platform/caches.h"

#include <atomic>
#include <string>

#ifdef __APPLE__
#include <stdint.h>
#include <sys/sysctl.h>
#else
#include <fstream>
#endif

namespace recurra {
namespace {

constexpr Caches kTypical = {32 << 10, 512 << 10};  // where the system does not tell

#ifdef __APPLE__

Caches detect() {
  const auto size = [](const char* name) {
    int64_t value = 0;
    size_t bytes = sizeof value;
    return sysctlbyname(name, &value, &bytes, nullptr, 0) == 0 ? ptrdiff_t(value) : 0;
  };
  return {size("hw.l1dcachesize"), size("hw.l2cachesize")};
}

#else

// "48K", "2M"; 0 for anything else.
ptrdiff_t bytes_of(const std::string& size) {
  ptrdiff_t number = 0;
  size_t digits = 0;
  for (; digits < size.size() && digits < 8 && size[digits] >= '0' && size[digits] <= '9'; ++digits)
    number = 10 * number + (size[digits] - '0');
  const std::string unit = size.substr(digits);
  return unit == "K" ? number << 10 : unit == "M" ? number << 20 : 0;
}

// Linux describes each cache of a processor in a folder of its own; elsewhere there are no such files.
Caches detect() {
  Caches found = {};
  for (char index = '0'; index <= '9'; ++index) {
    const auto word = [&](const char* name) {
      std::string text;
      std::ifstream(std::string("/sys/devices/system/cpu/cpu0/cache/index") + index + "/" + name) >> text;
      return text;
    };
    const std::string level = word("level");
    if (word("type") == "Instruction") continue;
    if (level == "1") found.l1 = bytes_of(word("size"));
    if (level == "2") found.l2 = bytes_of(word("size"));
  }
  return found;
}

#endif

Caches machine() {
  const Caches found = detect();
  return found.l1 > 0 && found.l2 >= found.l1 ? found : kTypical;
}

std::atomic<ptrdiff_t> given_l1{0}, given_l2{0};

}  // namespace

Caches caches() {
  static const Caches of_machine = machine();
  const ptrdiff_t l1 = given_l1.load(std::memory_order_relaxed), l2 = given_l2.load(std::memory_order_relaxed);
  return {l1 ? l1 : of_machine.l1, l2 ? l2 : of_machine.l2};
}

void set_caches(Caches sizes) {
  given_l1.store(sizes.l1, std::memory_order_relaxed);
  given_l2.store(sizes.l2, std::memory_order_relaxed);
}

}  // namespace recurra
