#include "cpu/device.h"
#include "cpu/recurrent/backward.h"
#include "cpu/recurrent/forward.h"
#include "cpu/recurrent/prepared_step.h"

namespace recurra {

template <class T>
StorageKind CpuDevice<T>::storage(const std::string& name) const {
  std::string names;
  for (int i = 0; const Storage<T>* storage = kernels<T>().storages[i]; ++i) {
    if (name == storage->name) return StorageKind(i);
    names += (i ? ", " : "") + std::string(storage->name);
  }
  fail("storage", "got '" + name + "', expected one of those that this build has: " + names);
}

template <class T>
std::unique_ptr<RecurrentWeights<T>> CpuDevice<T>::pack(const RecurrentPacking<T>& call, Arena memory) const {
  return pack_weights(call, std::move(memory));
}

template <class T>
void CpuDevice<T>::forward(const Run& run, const RecurrentForward<T>& call) const {
  StackForward<T>(run, call, nullptr).run();
}

template <class T>
std::unique_ptr<RecurrentStep<T>> CpuDevice<T>::prepare_step(const RecurrentSpec& spec, ptrdiff_t rows) const {
  return std::make_unique<CpuStep<T>>(spec, rows);
}

template <class T>
void CpuDevice<T>::record(const Run& run, const RecurrentForward<T>& call, RecurrentTape<T>& tape) const {
  StackForward<T>(run, call, &static_cast<CpuTape<T>&>(tape)).run();
}

template <class T>
std::unique_ptr<RecurrentTape<T>> CpuDevice<T>::take_tape(const RecurrentForward<T>& call, bool training,
                                                          Memory& memory) const {
  auto tape = std::make_unique<CpuTape<T>>();
  const Shape<T> shape = {*call.spec};
  const ptrdiff_t rows = call.batch->rows;
  tape->rows = sort_rows(*call.batch, memory.host);
  tape->stretches = TapePlan<T>{shape, tape->rows, rows, training}.within(call.tape_bytes);
  recurra::take_tape(*tape, shape, rows, training, memory.device);
  tape->thread(call.x, call.y);
  return tape;
}

template <class T>
void CpuDevice<T>::backward(const Run& run, const RecurrentBackward<T>& call, RecurrentTape<T>& any_tape) const {
  StackBackward<T>(run, call, static_cast<CpuTape<T>&>(any_tape)).run();
}

template <class T>
TapeBytes CpuDevice<T>::tape_bytes(const RecurrentSpec& spec, const Batch& batch, bool training) const {
  Arena memory;
  const Shape<T> shape = {spec};
  const Rows rows = sort_rows(batch, memory);
  return TapePlan<T>{shape, rows, batch.rows, training}.bounds();
}

template <class T>
bool CpuDevice<T>::read_tape(const RecurrentSpec& spec, const RecurrentTape<T>& any_tape, size_t index,
                             const RecurrentActivity<T>& to) const {
  const auto& tape = static_cast<const CpuTape<T>&>(any_tape);
  const Shape<T> shape = {spec};
  const Rows& rows = tape.rows;
  if (tape.stretches.count() > 1) return false;
  const SavedValues<T>& values = tape.saved[index];
  const ptrdiff_t layer = ptrdiff_t(index) / spec.directions, d = ptrdiff_t(index) % spec.directions;
  const ptrdiff_t panels = shape.panels.count, units = shape.panels.units;
  const Direction direction = {d == 1};
  for (ptrdiff_t s = 0; s < rows.steps; ++s)
    for (ptrdiff_t r = 0; r < rows.active[s]; ++r) {
      const ptrdiff_t own = rows.batch[r], row = to.order ? to.order[own] : own, time = direction.time(rows, r, s);
      std::copy_n(tape.y[size_t(layer)].at(own, time) + d * shape.state_size, shape.state_size, to.h.at(row, time));
      for (ptrdiff_t p = 0; p < panels; ++p) {
        const ptrdiff_t u = p * units, n = std::min(units, spec.hidden_size - u);
        const ptrdiff_t step_row = rows.offset[s] * panels + p * rows.active[s] + r;
        const ptrdiff_t scan_row = (rows.offset[s] + r) * panels + p;
        const ptrdiff_t at = shape.info.scanned ? scan_row : step_row;
        const T* saved = values.saved + at * shape.info.saved * units;
        for (ptrdiff_t k = 0; k < shape.info.saved; ++k)
          std::copy_n(saved + k * units, n, to.saved.at(row, time) + k * spec.hidden_size + u);
        if (to.c.data) std::copy_n(values.cells + at * units, n, to.c.at(row, time) + u);
      }
    }
  return true;
}

template <class T>
void CpuDevice<T>::add_gradient(const RecurrentSpec& spec, const std::vector<RecurrentOffsets>& offsets,
                                const RecurrentTape<T>& tape, T* gradient, int threads) const {
  add_weight_gradient(spec, offsets, static_cast<const CpuTape<T>&>(tape), gradient, threads);
}

#define RECURRA_INSTANCES(T)                                                                                           \
  template StorageKind CpuDevice<T>::storage(const std::string&) const;                                                \
  template std::unique_ptr<RecurrentWeights<T>> CpuDevice<T>::pack(const RecurrentPacking<T>&, Arena) const;           \
  template void CpuDevice<T>::forward(const Run&, const RecurrentForward<T>&) const;                                   \
  template std::unique_ptr<RecurrentStep<T>> CpuDevice<T>::prepare_step(const RecurrentSpec&, ptrdiff_t) const;        \
  template void CpuDevice<T>::record(const Run&, const RecurrentForward<T>&, RecurrentTape<T>&) const;                 \
  template std::unique_ptr<RecurrentTape<T>> CpuDevice<T>::take_tape(const RecurrentForward<T>&, bool, Memory&) const; \
  template void CpuDevice<T>::backward(const Run&, const RecurrentBackward<T>&, RecurrentTape<T>&) const;              \
  template TapeBytes CpuDevice<T>::tape_bytes(const RecurrentSpec&, const Batch&, bool) const;                         \
  template bool CpuDevice<T>::read_tape(const RecurrentSpec&, const RecurrentTape<T>&, size_t,                         \
                                        const RecurrentActivity<T>&) const;                                            \
  template void CpuDevice<T>::add_gradient(const RecurrentSpec&, const std::vector<RecurrentOffsets>&,                 \
                                           const RecurrentTape<T>&, T*, int) const;
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra
