// The scratch memory of a forward, and copies of rows into it.
#pragma once
#include "kernels/cells/call.h"
#include "kernels/gemm/tile.h"

namespace recurra::RECURRA_ISA {
namespace {

// Row strides of work buffers: whole cache lines, and never a power of two, which would crowd rows into few cache sets.
template <class T>
constexpr ptrdiff_t work_stride(ptrdiff_t n) {
  constexpr ptrdiff_t line = 64 / sizeof(T);
  return (n + line - 1) / line * line + line;
}

template <class T>
RECURRA_INLINE void copy_row(T* to, const T* from, ptrdiff_t n) {
  ptrdiff_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store(to + i, load<Vec<T>>(from + i));
  if (i < n) copy_tail<kLanes<T> / 2>(to + i, from + i, n - i);
}
template <class T>
RECURRA_INLINE void zero_row(T* to, ptrdiff_t n) {
  ptrdiff_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store(to + i, Vec<T>{});
  const T zeros[kLanes<T>] = {};
  if (i < n) copy_tail<kLanes<T> / 2>(to + i, static_cast<const T*>(zeros), n - i);
}

// In a panel of a cell whose columns are all fed by the input; those of the others have no more than three vectors.
constexpr int strips_of(const CellInfo& cell) { return strips_of(ptrdiff_t(cell.input.count)); }

// Few rows do not hide the time it takes to read W_ih at every step, so their product with the input is computed ahead
// for a block of steps; so is that of more rows if the weights leave the L2 cache no room. The bits are the same.
constexpr ptrdiff_t kAheadRows = 3, kAheadRowsFar = 32, kAheadInputs = 8;
template <class T>
bool input_goes_ahead(const Panels& panels, ptrdiff_t input_size, ptrdiff_t rows, ptrdiff_t steps,
                      const Caches& caches) {
  const ptrdiff_t bytes = panels.count * panels.columns * (input_size + panels.padded()) * ptrdiff_t(sizeof(T));
  return steps > 1 && input_size >= kAheadInputs && rows <= (caches.far(bytes) ? kAheadRowsFar : kAheadRows);
}

// Steps in a block: as many as leave its product in the L2 cache, but so many rows that they share each weight that is
// read. `two`: a second block is computed meanwhile.
RECURRA_ALWAYS_INLINE ptrdiff_t steps_ahead(ptrdiff_t step_bytes, ptrdiff_t rows, bool two, const Caches& caches) {
  constexpr ptrdiff_t kMost = 64, kLeastRows = 64;
  const ptrdiff_t room = caches.l2 / (two ? 16 : 4) / step_bytes, least = (kLeastRows + rows - 1) / rows;
  return room > kMost ? kMost : room < least ? (least > 2 ? least : 2) : room;
}

// If a single row's products wait for recurrent weights that are not in the nearest cache, the input's product is
// computed in pieces beside them. With 16 registers there is room beside a slower cache only.
template <class T>
bool goes_beside(const CellInfo& cell, const Panels& panels, ptrdiff_t rows, const Caches& caches) {
  const ptrdiff_t vectors = cell.input.count * panels.units / panels.strips / kLanes<T>;
  return rows == 1 && cell.stages == 1 && fits_beside(vectors) &&
         panels.count * panels.columns * panels.padded() * ptrdiff_t(sizeof(T)) >
             (kRegisters == 32 ? 2 * caches.l1 : caches.l2 / 2);
}

// The plan is stored at the head of the memory that it describes.
template <class T>
struct ForwardScratch {
  T* h[2];      // [row][hidden_stride], of the previous step and of this one
  T* c;         // [panel][row][units]
  T* x;         // [row][input_stride]
  T* operand;   // [row][hidden_stride], the second stage's
  T* saved;     // one step in the layout of the tape, for calls that record none
  T* ahead[2];  // [step][row][panel][columns]; two if the next block is computed beside this one's steps
  T* tile;      // [row][columns]; for a single row [panel][columns]; with layer norm [row][panel][columns]
  T** y;        // [row] destination of this step's output
  // For options:
  T* made;       // [row][hidden_stride], h as the equations computed it
  T* projected;  // [row][hidden_stride]
  T* masked;     // [row][hidden_stride], the masked operand of the recurrent product
  T* zone;       // [row][padded] of c, then one row of h: the share of the old state that is kept
  T* hidden;     // [row of a tile][panel][columns], the recurrent product, with layer norm
  T* candidate;  // [row of a tile][padded], c, with layer norm
  ptrdiff_t hidden_stride, input_stride, ahead_steps;
  ptrdiff_t size;

  static ForwardScratch plan(const CellInfo& cell, const Panels& panels, const CellOptions<T>& options,
                             ptrdiff_t input_size, ptrdiff_t rows, ptrdiff_t steps, const Caches& caches, bool tape,
                             T* base) {
    ForwardScratch s = {};
    ptrdiff_t used = (ptrdiff_t(sizeof s / sizeof(T)) + 63) / 64 * 64;
    auto take = [&](ptrdiff_t n) {
      T* p = base ? base + used : nullptr;
      used += (n + 63) / 64 * 64;
      return p;
    };
    constexpr ptrdiff_t pointer_size = sizeof(void*);
    const ptrdiff_t padded = panels.padded();
    s.hidden_stride = work_stride<T>(padded);
    s.input_stride = work_stride<T>(input_size);
    for (T*& h : s.h) h = take(rows * s.hidden_stride);
    if (cell.has_cell) s.c = take(rows * padded);
    const bool normalised = options.normalised();
    const bool ahead = !normalised && input_goes_ahead<T>(panels, input_size, rows, steps, caches);
    if (ahead) {
      const bool two = goes_beside<T>(cell, panels, rows, caches);
      const ptrdiff_t width = rows * panels.count * panels.columns, whole = two ? kBesideRows : 1;
      s.ahead_steps = steps_ahead(width * ptrdiff_t(sizeof(T)), rows, two, caches);
      s.ahead_steps = (s.ahead_steps + whole - 1) / whole * whole;
      s.ahead_steps = s.ahead_steps < steps ? s.ahead_steps : steps;
      s.ahead[0] = take(s.ahead_steps * width);
      if (two) s.ahead[1] = take(s.ahead_steps * width);
    }
    s.x = take((ahead ? s.ahead_steps : 1) * rows * s.input_stride);
    s.tile = take((panels.count > kMaxRows ? panels.count : kMaxRows) * panels.columns * (normalised ? kMaxRows : 1));
    if (cell.stages > 1) s.operand = take(rows * s.hidden_stride);
    if (cell.stages > 1 && !tape) s.saved = take(rows * panels.count * cell.saved * panels.units);
    if (options.any) {
      s.made = take(rows * s.hidden_stride);
      if (options.projected) s.projected = take(rows * s.hidden_stride);
      if (options.recurrent_mask) s.masked = take(rows * s.hidden_stride);
      if (options.zone_h.random || options.zone_c.random) s.zone = take((rows + 1) * padded);
    }
    if (normalised) {
      s.hidden = take(kMaxRows * panels.count * panels.columns);
      if (cell.has_cell) s.candidate = take(kMaxRows * padded);
    }
    s.y = reinterpret_cast<T**>(take(rows * pointer_size / ptrdiff_t(sizeof(T))));
    s.size = used;
    return s;
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
