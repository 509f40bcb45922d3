// What the machine can do, measured on one thread with the kernels' instruction set: the roofline that speeds are held
// against.
#pragma once

namespace recurra {

struct Peak {
  double fma_gflops;                // f32, a multiply-add counted as two
  double l2_gbs, l3_gbs, dram_gbs;  // reading 256 KB, 8 MB and 256 MB again and again
};
Peak measure_peak();

}  // namespace recurra
