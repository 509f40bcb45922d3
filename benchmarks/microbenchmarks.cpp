// The kernels one by one, on one thread, with the instruction set in use (RECURRA_ISA forces one).
#include <exception>
#include <iostream>

#include "registration.h"

int main(int argc, char** argv) {
  try {
    recurra::register_kernels();
    recurra::register_recurrent();
    recurra::register_stream();
  } catch (const std::exception& error) {  // an unknown RECURRA_ISA
    std::cerr << error.what() << '\n';
    return 1;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
