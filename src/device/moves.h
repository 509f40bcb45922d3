// A device's copy(), fill() and add() for rows without steps and for flat arrays.
#pragma once
#include "device/device.h"

namespace recurra {

inline Batch single_step(ptrdiff_t rows) { return {rows, 1, nullptr, nullptr, 0, 0}; }

template <class T>
Sequence<T> as_steps(StateRows<T> rows) {
  return {rows.data, rows.stride, 0};
}

template <class T>
void fill_rows(const Device<T>& device, ptrdiff_t rows, ptrdiff_t n, T value, StateRows<T> to) {
  device.fill(single_step(rows), n, value, as_steps(to));
}
// from.data null: zeros.
template <class T>
void copy_rows(const Device<T>& device, ptrdiff_t rows, ptrdiff_t n, StateRows<const T> from, StateRows<T> to) {
  if (!from.data) return fill_rows(device, rows, n, T(0), to);
  const Batch batch = single_step(rows);
  device.copy({&batch, n, as_steps(from), as_steps(to)});
}
// Gathers listed rows into contiguous ones, and scatters them back.
template <class T>
void gather_rows(const Device<T>& device, const int64_t* list, ptrdiff_t rows, ptrdiff_t n, StateRows<const T> from,
                 StateRows<T> to) {
  const Batch batch = single_step(rows);
  device.copy({.batch = &batch, .features = n, .from = as_steps(from), .to = as_steps(to), .from_rows = list});
}
template <class T>
void scatter_rows(const Device<T>& device, const int64_t* list, ptrdiff_t rows, ptrdiff_t n, StateRows<const T> from,
                  StateRows<T> to) {
  const Batch batch = single_step(rows);
  device.copy({.batch = &batch, .features = n, .from = as_steps(from), .to = as_steps(to), .to_rows = list});
}
template <class T>
void add_rows(const Device<T>& device, ptrdiff_t rows, ptrdiff_t n, StateRows<const T> from, StateRows<T> to) {
  device.add(single_step(rows), n, as_steps(from), as_steps(to));
}

template <class T>
void fill_flat(const Device<T>& device, T* to, ptrdiff_t n, T value) {
  fill_rows(device, 1, n, value, {to, 0});
}
template <class T>
void copy_flat(const Device<T>& device, const T* from, ptrdiff_t n, T* to) {
  copy_rows<T>(device, 1, n, {from, 0}, {to, 0});
}
template <class T>
void add_flat(const Device<T>& device, const T* from, ptrdiff_t n, T* to) {
  add_rows<T>(device, 1, n, {from, 0}, {to, 0});
}

// Copies row r of `from`, or row list[r], to rows [r * copies, (r + 1) * copies) of `to`, which are contiguous.
template <class T>
void repeat_rows(const Device<T>& device, ptrdiff_t rows, ptrdiff_t copies, ptrdiff_t n, StateRows<const T> from, T* to,
                 const int64_t* list = nullptr) {
  const Batch batch = {rows, copies, nullptr, nullptr, 0, 0};
  device.copy({.batch = &batch, .features = n, .from = as_steps(from), .to = {to, copies * n, n}, .from_rows = list});
}

}  // namespace recurra
