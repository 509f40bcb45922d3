// Runs the tests with the instruction set that RECURRA_ISA names, and proves that it is the one; 77 if the machine
// lacks it. RECURRA_TEST_THREADS: with so many threads, which share even the smallest calls.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu/isa.h"
#include "device/device.h"
#include "platform/cpu.h"
#include "platform/parallel.h"
#include "platform/tasks.h"

int main(int argc, char** argv) {
  const char* wanted = std::getenv("RECURRA_ISA");
  if (wanted && !recurra::cpu_supports(wanted)) {
    std::printf("skipped: this processor does not run %s\n", wanted);
    return 77;
  }
  if (wanted && std::strcmp(wanted, recurra::isa_name()) != 0) {
    std::printf("asked for %s, but %s runs\n", wanted, recurra::isa_name());
    return 1;
  }
  if (const char* threads = std::getenv("RECURRA_TEST_THREADS")) {
    recurra::set_num_threads(std::atoi(threads));
    recurra::set_eager(true);
  }
  recurra::set_patient(true);  // what threads do together is compared with what one does
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
