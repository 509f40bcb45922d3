// Attention between the steps of a decoder's cell, in forward and backward. Part of attention_decoder.cpp.
#pragma once
#include "layers/attention_decoder_pass.h"

namespace recurra {

// A run for a hook's work on its own thread, too short to poll for a stop.
inline Run on_one_thread(const Run& run) {
  return {run.devices, run.arena, run.host, 1, nullptr, run.training, run.random};
}

// Attention for some rows at a step, or for some steps of a row. Also copies the caller's x and y, while the pass's are
// in a near cache; x.data is null if x is in place already, y.data if y is not wanted.
template <class T>
class AttentionDecoder<T>::ForwardHook final : public StepHook<T> {
 public:
  ForwardHook(const AttentionDecoder& layer, const Packed& packed, const Pass& pass, Sequence<const T> x, Sequence<T> y,
              const Run& run)
      : layer_(layer), packed_(packed), pass_(pass), x_(x), y_(y), stop_(run.stop), run_(on_one_thread(run)) {}

  void copy_x(ptrdiff_t row, ptrdiff_t step) const {
    std::copy_n(x_.at(pass_.order[row], step), layer_.input_size_, pass_.x.at(row, step));
  }

  void before_step(ptrdiff_t first, ptrdiff_t count, ptrdiff_t step) override {
    if (x_.data) {
      const HostAccess access(run_.devices);
      for (ptrdiff_t r = first; r < first + count; ++r) {
        copy_x(r, step);
        if (step + 1 < pass_.batch.length(r)) ask_for(x_.at(pass_.order[r], step + 1), layer_.input_size_);
        ask_for(y_.at(pass_.order[r], step), layer_.spec_.hidden_size);
      }
    }
    if (layer_.looks_first()) {
      const AttentionCall<T>& call = pass_.attending.call;
      packed_.scoring.query.multiply(count, pass_.h.at(first, step), pass_.h.row_stride,
                                     const_cast<T*>(call.query.at(first, step)), call.query.row_stride);
      for (ptrdiff_t r = first; r < first + count && !stopped(); ++r) look(r, step, 1);
    } else {
      const HostAccess access(run_.devices);
      const ptrdiff_t H = layer_.spec_.hidden_size;
      for (ptrdiff_t r = first; r < first + count; ++r) {
        T* to = pass_.x.at(r, step) + layer_.input_size_;
        if (step > 0)
          std::copy_n(pass_.a.at(r, step - 1), H, to);
        else if (pass_.state.data)
          std::copy_n(pass_.state.at(r) + layer_.fed_state(), H, to);
        else
          std::fill_n(to, H, T(0));
      }
    }
  }

  void after_step(ptrdiff_t first, ptrdiff_t count, ptrdiff_t step) override {
    if (!layer_.looks_first()) {
      for (ptrdiff_t r = first; r < first + count && !stopped(); ++r) look(r, step, 1);
      combine(first, step, count, &Sequence<T>::row_stride);
    }
    const HostAccess access(run_.devices);
    for (ptrdiff_t r = first; y_.data && r < first + count; ++r) copy_y(r, step);
  }

  // Attention for some steps of a row, if steps do not depend on each other.
  void steps_of(ptrdiff_t row, ptrdiff_t begin, ptrdiff_t count) {
    look(row, begin, count);
    combine(row, begin, count, &Sequence<T>::step_stride);
    const HostAccess access(run_.devices);
    for (ptrdiff_t s = begin; s < begin + count; ++s) copy_y(row, s);
  }

 private:
  bool stopped() const { return stop_ && stop_->poll(); }
  void copy_y(ptrdiff_t row, ptrdiff_t step) const {
    const T* y = layer_.looks_first() ? pass_.h.at(row, step + 1) : pass_.a.at(row, step);
    std::copy_n(y, layer_.spec_.hidden_size, y_.at(pass_.order[row], step));
  }
  void look(ptrdiff_t row, ptrdiff_t begin, ptrdiff_t count) const {
    pass_.attending.rows->forward(pass_.attending.call, row, pass_.order[row], begin, count);
  }

  // a = tanh(W_c [c; h]) for `count` rows or steps from (row, step) on.
  void combine(ptrdiff_t row, ptrdiff_t step, ptrdiff_t count, ptrdiff_t Sequence<T>::*along) const {
    const ptrdiff_t H = layer_.spec_.hidden_size, combined_next = pass_.combined.*along, a_next = pass_.a.*along;
    T* combined = pass_.combined.at(row, step);
    T* a = pass_.a.at(row, step);
    copy_rows<T>(run_.template device<T>(), count, H, {pass_.h.at(row, step + 1), pass_.h.*along},
                 {combined + layer_.memory_size(), combined_next});
    packed_.combine.multiply(count, combined, combined_next, a, a_next);
    const Sequence<T> rows = {a, a_next, H};
    run_.template device<T>().activation(run_, single_step(count), H, kTanh, read_only(rows), rows);
  }

  const AttentionDecoder& layer_;
  const Packed& packed_;
  const Pass& pass_;
  Sequence<const T> x_;
  Sequence<T> y_;
  Stop* const stop_;
  const Run run_;
};

template <class T>
class AttentionDecoder<T>::BackwardHook final : public StepHook<T> {
 public:
  // Gradients of the pass's arrays.
  struct Gradients {
    Sequence<T> x, h;         // as in Pass; with a hook, one step at a time; h from step 1 on is the cell's dy
    Sequence<T> context;      // additive scores only
    Sequence<T> combined, a;  // a: before tanh
    StateRows<const T> final_state;
  };

  BackwardHook(const AttentionDecoder& layer, const Packed& packed, const Pass& pass, Sequence<const T> dy,
               Sequence<T> dx, const Gradients& gradients, const Run& run)
      : layer_(layer),
        packed_(packed),
        pass_(pass),
        dy_(dy),
        dx_(dx),
        d_(gradients),
        stop_(run.stop),
        run_(on_one_thread(run)) {
    if (layer.looks_first())
      through_query_ = {run.arena.take<T>(size_t(pass.batch.rows * layer.spec_.hidden_size)), layer.spec_.hidden_size};
  }

  // The gradient of the state before step 0 through that step's query.
  const T* through_first_query(ptrdiff_t row) const { return through_query_.at(row); }

  void before_step(ptrdiff_t first, ptrdiff_t count, ptrdiff_t step) override {
    const ptrdiff_t H = layer_.spec_.hidden_size;
    if (layer_.looks_first()) {
      const HostAccess access(run_.devices);
      for (ptrdiff_t r = first; r < first + count; ++r) {
        T* dh = d_.h.at(r, step + 1);
        copy_dy(r, step, dh);
        if (dy_.data && step > 0) ask_for(dy_.at(pass_.order[r], step - 1), H);
        if (dx_.data) ask_for(dx_.at(pass_.order[r], step), layer_.input_size_);
        for (ptrdiff_t k = 0; step + 1 < pass_.batch.length(r) && k < H; ++k) dh[k] += through_query_.at(r)[k];
      }
      return;
    }
    {
      const HostAccess access(run_.devices);
      for (ptrdiff_t r = first; r < first + count; ++r) {
        T* da = d_.a.at(r, step);
        copy_dy(r, step, da);
        if (!layer_.feeds_) continue;
        const T* fed = step + 1 < pass_.batch.length(r) ? d_.x.at(r, step + 1) + layer_.input_size_
                       : d_.final_state.data            ? d_.final_state.at(r) + layer_.fed_state()
                                                        : nullptr;
        for (ptrdiff_t k = 0; fed && k < H; ++k) da[k] += fed[k];
      }
    }
    combine(first, step, count, &Sequence<T>::row_stride);
    for (ptrdiff_t r = first; r < first + count && !stopped(); ++r) look(r, step, 1);
  }

  void after_step(ptrdiff_t first, ptrdiff_t count, ptrdiff_t step) override {
    if (dx_.data) {
      const HostAccess access(run_.devices);
      for (ptrdiff_t r = first; r < first + count; ++r) copy_dx(r, step);
    }
    if (!layer_.looks_first()) return;
    const AttentionCall<T>& call = pass_.attending.call;
    copy_rows<T>(run_.template device<T>(), count, layer_.memory_size(),
                 {d_.x.at(first, step) + layer_.input_size_, d_.x.row_stride},
                 {d_.context.at(first, step), d_.context.row_stride});
    for (ptrdiff_t r = first; r < first + count && !stopped(); ++r)
      pass_.attending.rows->backward(call, r, pass_.order[r], step, 1);
    packed_.scoring.query_t.multiply(count, call.dquery.at(first, step), call.dquery.row_stride,
                                     through_query_.at(first), through_query_.stride);
  }

  void steps_of(ptrdiff_t row, ptrdiff_t begin, ptrdiff_t count) {
    {
      const HostAccess access(run_.devices);
      for (ptrdiff_t s = begin; s < begin + count; ++s) copy_dy(row, s, d_.a.at(row, s));
    }
    combine(row, begin, count, &Sequence<T>::step_stride);
    look(row, begin, count);
  }

  void copy_dx(ptrdiff_t row, ptrdiff_t step) const {
    std::copy_n(d_.x.at(row, step), layer_.input_size_, dx_.at(pass_.order[row], step));
  }

 private:
  void copy_dy(ptrdiff_t row, ptrdiff_t step, T* to) const {
    if (dy_.data)
      std::copy_n(dy_.at(pass_.order[row], step), layer_.spec_.hidden_size, to);
    else
      std::fill_n(to, layer_.spec_.hidden_size, T(0));
  }
  bool stopped() const { return stop_ && stop_->poll(); }
  // The gradient of [c; h] from that of a.
  void combine(ptrdiff_t row, ptrdiff_t step, ptrdiff_t count, ptrdiff_t Sequence<T>::*along) const {
    T* da = d_.a.at(row, step);
    const ptrdiff_t next = d_.a.*along;
    const ptrdiff_t H = layer_.spec_.hidden_size;
    const Sequence<const T> a = {pass_.a.at(row, step), pass_.a.*along, H};
    const Sequence<T> d = {da, next, H};
    run_.template device<T>().activation_gradient(run_, single_step(count), H, kTanh, a, a, read_only(d), d);
    packed_.combine_t.multiply(count, da, next, d_.combined.at(row, step), d_.combined.*along);
  }
  // The gradient of h, directly and through c.
  void look(ptrdiff_t row, ptrdiff_t begin, ptrdiff_t count) const {
    const AttentionCall<T>& call = pass_.attending.call;
    pass_.attending.rows->backward(call, row, pass_.order[row], begin, count);
    const HostAccess access(run_.devices);
    for (ptrdiff_t s = begin; s < begin + count; ++s) {
      const T* direct = d_.combined.at(row, s) + layer_.memory_size();
      const T* query = call.dquery.at(row, s);
      T* to = d_.h.at(row, s + 1);
      for (ptrdiff_t k = 0; k < layer_.spec_.hidden_size; ++k) to[k] = direct[k] + query[k];
    }
  }

  const AttentionDecoder& layer_;
  const Packed& packed_;
  const Pass& pass_;
  Sequence<const T> dy_;
  Sequence<T> dx_;
  Gradients d_;
  Stop* const stop_;
  const Run run_;
  StateRows<T> through_query_ = {};
};

}  // namespace recurra
