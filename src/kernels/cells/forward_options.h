// What options add to a step forwards, beside the equations: masks before it; projection, zoneout and the outputs
// after it.
#pragma once
#include "kernels/cells/forward_scratch.h"
#include "kernels/cells/option_rows.h"
#include "kernels/gemm/product.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class T>
struct ForwardOptions {
  typedef Vec<T> V;
  const ForwardCall<T>& call;
  const ForwardScratch<T>& work;
  const CellOptions<T>& options = call.options;
  const ptrdiff_t padded = call.panels.padded();

  ptrdiff_t batch(ptrdiff_t r) const { return call.rows.batch[call.first + r]; }
  ptrdiff_t time(ptrdiff_t r, ptrdiff_t step) const { return call.direction.time(call.rows, call.first + r, step); }
  T* zone_h() const { return work.zone + (call.last - call.first) * padded; }

  void before(const T* h_in, ptrdiff_t step, ptrdiff_t active) const {
    for (ptrdiff_t r = 0; work.masked && r < active; ++r)
      multiply_row_by(h_in + r * work.hidden_stride, options.recurrent_mask + batch(r) * options.mask_row,
                      work.masked + r * work.hidden_stride, options.state_size);
    for (ptrdiff_t r = 0; options.zone_c.random && r < active; ++r)
      zone_row(options.zone_c, batch(r), time(r, step), work.zone + r * padded, padded);
  }

  void after(const T* h_in, T* h_out, ptrdiff_t step, ptrdiff_t active) const {
    const T* made = work.made;
    if (options.projected) {
      product(ProductCall<T>{active, call.hidden_size, options.state_size, made, work.hidden_stride, options.projection,
                             nullptr, work.projected, work.hidden_stride});
      made = work.projected;
    }
    for (ptrdiff_t r = 0; r < active; ++r) {
      const ptrdiff_t row = r * work.hidden_stride;
      zone_out(made + row, h_in + row, h_out + row, r, step);
      if (call.y.data) copy_row(work.y[r], h_out + row, options.state_size);
    }
  }

 private:
  void zone_out(const T* made, const T* old, T* h, ptrdiff_t r, ptrdiff_t step) const {
    if (options.zone_h.rate == 0) return copy_row(h, made, options.state_size);
    if (options.zone_h.random) zone_row(options.zone_h, batch(r), time(r, step), zone_h(), options.state_size);
    for (ptrdiff_t u = 0; u < options.state_size; u += kLanes<T>) {
      const ptrdiff_t n = options.state_size - u;
      const V v = load<V>(made + u, n),
              zone = options.zone_h.random ? load<V>(zone_h() + u, n) : broadcast<V>(options.zone_h.rate);
      store(h + u, fma(zone, load<V>(old + u, n) - v, v), n);
    }
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
