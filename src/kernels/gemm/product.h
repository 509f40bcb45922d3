// Plain products on the micro-kernel: what dense layers are made of.
#pragma once
#include "kernels/gemm/call.h"
#include "kernels/gemm/tile.h"
#include "platform/caches.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class T>
void product(const ProductCall<T>& call) {
  constexpr ptrdiff_t L = kLanes<T>;
  alignas(64) T out[kMaxRows * kMaxVectors * L];
  const ColumnPanels panels = {(call.columns + L - 1) / L, kTileVectors};
  const Storage<T>& storage = call.b.storage ? *call.b.storage : own_storage<T>();
  const char* b = static_cast<const char*>(call.b.panels);
  const bool far = caches().far(call.k * call.columns * storage.bytes);
  for (ptrdiff_t p = 0; p < panels.count(); ++p) {
    const ptrdiff_t from = panels.begin(p) * L, width = panels.begin(p + 1) * L - from, left = call.columns - from;
    const int nv = int(width / L);
    const Segment<T> segment = {call.a, call.a_row, b + from * call.k * storage.bytes, call.k};
    const Scales<T> scales = {call.b.scales ? call.b.scales + from : nullptr, 0, 0, false};
    const Split tiles = split(call.rows, max_rows(nv));
    for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
      T* const whole = width <= left ? call.out + tiles.begin(i) * call.out_row + from : nullptr;
      Tile<T> tile = {&segment,
                      1,
                      width * storage.bytes,
                      call.bias ? call.bias + from : nullptr,
                      0,
                      whole ? whole : out,
                      whole ? call.out_row : width};
      tile.scales = &scales;
      if (far && i == 0) tile.next = static_cast<const char*>(segment.b) + width * call.k * storage.bytes;
      multiply(storage.tiles, tile, tiles.begin(i), tiles.size(i), nv);
      for (ptrdiff_t r = 0; !whole && r < tiles.size(i); ++r) {
        T* to = call.out + (tiles.begin(i) + r) * call.out_row + from;
        for (ptrdiff_t n = 0; n < width && n < left; n += L) {
          store(to + n, load<Vec<T>>(out + r * width + n), left - n);
        }
      }
    }
  }
}

// Columns [begin, begin + width) of `count` rows, row r at from(r), one after the other to `to`; zeros from `columns`
// on.
template <class T, class From>
RECURRA_INLINE void copy_panel(T* to, ptrdiff_t count, const From& from, ptrdiff_t begin, ptrdiff_t width,
                               ptrdiff_t columns) {
  for (ptrdiff_t r = 0; r < count; ++r)
    for (ptrdiff_t n = 0; n < width; n += kLanes<T>)
      store(to + r * width + n, load<Vec<T>>(from(r) + begin + n, columns - begin - n));
}

// One panel of `width` columns, of which `left` are there.
template <class T>
void add_outer_panel(const OuterCall<T>& call, const T* b, ptrdiff_t from, ptrdiff_t width, ptrdiff_t left) {
  constexpr ptrdiff_t L = kLanes<T>;
  alignas(64) T edge[kMaxRows * kMaxVectors * L];
  const int nv = int(width / L);
  const Split tiles = split(call.k, max_rows(nv));
  for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
    T* const out = call.out + tiles.begin(i) * call.out_row + from;
    const bool whole = call.scratch || width <= left;
    const Segment<T> segment = {call.a + tiles.begin(i), call.a_row, b, call.rows};
    const Tile<T> tile = {
        &segment, 1, bytes_of<T>(width), nullptr, 0, whole ? out : edge, whole ? call.out_row : width};
    for (ptrdiff_t n = 0; !whole && n < tiles.size(i) * width; n += L) store(edge + n, Vec<T>{});
    add(tile, 0, tiles.size(i), nv);
    for (ptrdiff_t r = 0; !whole && r < tiles.size(i); ++r)
      for (ptrdiff_t n = 0; n < left; n += L) {
        T* const to = out + r * call.out_row + n;
        store(to, load<Vec<T>>(to, left - n) + load<Vec<T>>(edge + r * width + n), left - n);
      }
  }
}

template <class T>
void outer(const OuterCall<T>& call) {
  constexpr ptrdiff_t L = kLanes<T>;
  const ColumnPanels panels = {(call.columns + L - 1) / L, kTileVectors};
  for (ptrdiff_t p = 0; p < panels.count(); ++p) {
    const ptrdiff_t from = panels.begin(p) * L, width = panels.begin(p + 1) * L - from;
    if (call.scratch)
      copy_panel(
          call.scratch, call.rows, [&](ptrdiff_t r) { return call.b + r * call.b_row; }, from, width, call.columns);
    add_outer_panel(call, call.scratch ? call.scratch : call.b + from * call.b_row, from, width, call.columns - from);
  }
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
