#pragma once
#include "layers/layer.h"

namespace recurra {

// Several inputs with the same steps become one. Without parameters; a class says what happens at one step.
template <class T>
class Merge : public Layer<T> {
 public:
  // inputs: how many; 0: any number.
  explicit Merge(ptrdiff_t inputs = 0) : Layer<T>(std::vector<ParameterSpec>{}), inputs_(inputs) {}

  ptrdiff_t inputs() const final { return inputs_; }
  bool joins() const final { return true; }
  ptrdiff_t input_size() const final { return 0; }
  ptrdiff_t output_size() const final { return 0; }
  ptrdiff_t output_features(const ptrdiff_t* features, ptrdiff_t inputs) const override;
  double work() const final { return 1; }

  void forward(const Run&, const LayerForward<T>&) final;
  std::unique_ptr<LayerTape<T>> record(const Run&, const LayerForward<T>&, Arena& memory) final;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Arena& memory) final;
  void commit(LayerTape<T>&, int) final {}

 protected:
  // An input at one step.
  struct Part {
    const T* x;
    T* dx;  // null: not wanted
    ptrdiff_t features;
  };

 private:
  virtual void merge(const Part* parts, ptrdiff_t count, T* y) const = 0;
  virtual void split(const Part* parts, ptrdiff_t count, const T* dy) const = 0;

  ptrdiff_t inputs_;
};

// y = x_1 + ... + x_n, added in that order.
template <class T>
class Add final : public Merge<T> {
 public:
  const char* kind() const override { return "add"; }

 private:
  typedef typename Merge<T>::Part Part;
  void merge(const Part*, ptrdiff_t count, T* y) const override;
  void split(const Part*, ptrdiff_t count, const T* dy) const override;
};

// y = x_1 * ... * x_n, element by element, multiplied in that order.
template <class T>
class Multiply final : public Merge<T> {
 public:
  const char* kind() const override { return "multiply"; }

 private:
  typedef typename Merge<T>::Part Part;
  void merge(const Part*, ptrdiff_t count, T* y) const override;
  void split(const Part*, ptrdiff_t count, const T* dy) const override;
};

// y = x_1 - x_2
template <class T>
class Subtract final : public Merge<T> {
 public:
  Subtract() : Merge<T>(2) {}
  const char* kind() const override { return "subtract"; }

 private:
  typedef typename Merge<T>::Part Part;
  void merge(const Part*, ptrdiff_t count, T* y) const override;
  void split(const Part*, ptrdiff_t count, const T* dy) const override;
};

// y = (x_1 + ... + x_n) / n, added in that order.
template <class T>
class Average final : public Merge<T> {
 public:
  const char* kind() const override { return "average"; }

 private:
  typedef typename Merge<T>::Part Part;
  void merge(const Part*, ptrdiff_t count, T* y) const override;
  void split(const Part*, ptrdiff_t count, const T* dy) const override;
};

// The largest or smallest of the inputs, element by element; NaN wins. Its gradient goes to the first input that has
// it.
template <class T, bool kLargest>
class Extreme final : public Merge<T> {
 public:
  const char* kind() const override { return kLargest ? "maximum" : "minimum"; }

 private:
  typedef typename Merge<T>::Part Part;
  static bool wins(T x, T over) { return x != x ? over == over : kLargest ? x > over : x < over; }
  void merge(const Part*, ptrdiff_t count, T* y) const override;
  void split(const Part*, ptrdiff_t count, const T* dy) const override;
};
template <class T>
using Maximum = Extreme<T, true>;
template <class T>
using Minimum = Extreme<T, false>;

// y = x_1 . x_2, one value.
template <class T>
class Dot final : public Merge<T> {
 public:
  Dot() : Merge<T>(2) {}
  const char* kind() const override { return "dot"; }
  ptrdiff_t output_features(const ptrdiff_t* features, ptrdiff_t inputs) const override;

 private:
  typedef typename Merge<T>::Part Part;
  void merge(const Part*, ptrdiff_t count, T* y) const override;
  void split(const Part*, ptrdiff_t count, const T* dy) const override;
};

// y holds the features of x_1, then those of x_2, ...
template <class T>
class Concatenate final : public Merge<T> {
 public:
  const char* kind() const override { return "concatenate"; }
  ptrdiff_t output_features(const ptrdiff_t* features, ptrdiff_t inputs) const override;

 private:
  typedef typename Merge<T>::Part Part;
  void merge(const Part*, ptrdiff_t count, T* y) const override;
  void split(const Part*, ptrdiff_t count, const T* dy) const override;
};

}  // namespace recurra
