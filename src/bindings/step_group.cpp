#include "bindings/step_group.h"

#include <cstring>
#include <map>
#include <unordered_set>

#include "bindings/handles.h"
#include "platform/clock.h"

namespace recurra::bindings {
namespace {

PyTypeObject* group_type;
PyObject *append_name, *done_name, *set_result_name, *slot_name, *used_name;

constexpr ptrdiff_t kMostFeatures = ptrdiff_t{1} << 40;
constexpr double kMostSeconds = 1e9;

// As Python's perf_counter.
double seconds_now() { return 1e-9 * double(steady_ns()); }

py::object owned(PyObject* object) {
  if (!object) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(object);
}

py::object ask(const py::object& object, PyObject* name) { return owned(PyObject_GetAttr(object.ptr(), name)); }
bool is_done(const py::object& future) {
  return owned(PyObject_CallMethodNoArgs(future.ptr(), done_name)).is(py::bool_(true));
}

// The steps that coroutines of one event loop ask for in one of its turns, each of another stream: rows are gathered as
// they come and scattered as futures' results, so that a step costs few Python objects. A group that has steps is an
// entry of the scheduler's inbox.
class StepGroup {
 public:
  StepGroup() = default;
  StepGroup(const std::string& dtype, ptrdiff_t features, py::object owner, py::object new_future, py::object inbox)
      : features_(features), owner_(std::move(owner)), new_future_(std::move(new_future)), inbox_(std::move(inbox)) {
    check(features >= 0 && features <= kMostFeatures, "StepGroup", "features is ", features, ", expected 0 to ",
          kMostFeatures);
    with_dtype(dtype, "StepGroup", [&](auto* null) {
      type_ = py::dtype::num_of<std::remove_pointer_t<decltype(null)>>();
      row_bytes_ = features * ptrdiff_t(sizeof(*null));
    });
  }

  // As in Handle: an object made by __new__ alone takes no step.
  static void* operator new(size_t size) { return new (::operator new(size)) StepGroup(); }
  static void* operator new(size_t, void* place) { return place; }
  static void operator delete(void* place) { ::operator delete(place); }

  // The future of a step; null if it is to take another way.
  py::object add(PyObject* self, PyObject* stream, PyObject* x) {
    if (!takes(x)) return {};
    py::object future = owned(PyObject_CallNoArgs(new_future_.ptr()));  // Python code, so before anything is looked at
    if (streams_.count(stream)) return {};
    // Behind a later request, the stream's own among them, this step would come too early.
    if (!waiting_.empty() && !owned(PySequence_GetItem(inbox_.ptr(), -1)).is(py::handle(self))) return {};
    const size_t end = waiting_.size() * size_t(row_bytes_);
    values_.resize(end + size_t(row_bytes_));
    std::memcpy(values_.data() + end, py::detail::array_proxy(x)->data, size_t(row_bytes_));
    streams_.insert(stream);
    waiting_.push_back({py::reinterpret_borrow<py::object>(stream), future, seconds_now()});
    if (waiting_.size() > 1) return future;
    try {
      owned(PyObject_CallMethodOneArg(inbox_.ptr(), append_name, self));
    } catch (...) {
      forget();
      throw;
    }
    return future;
  }

  // All that wait, except those whose future is done: x, slots, how many were left out, the seconds that the others
  // waited in all, and how many had each length in bits of their microseconds. None, with nothing changed, if a stream
  // has no slot.
  py::object take(double now) {
    std::vector<size_t> wanted;
    py::list slots;
    for (size_t i = 0; i < waiting_.size(); ++i) {
      if (is_done(waiting_[i].future)) continue;
      const py::object slot = ask(waiting_[i].stream, slot_name);
      if (slot.is_none()) return py::none();
      slots.append(slot);
      wanted.push_back(i);
    }
    py::array x = rows(ptrdiff_t(wanted.size()));
    double seconds = 0;
    std::map<int, int> places;
    std::vector<Member> taken;
    for (const size_t i : wanted) {
      std::memcpy(static_cast<char*>(x.mutable_data()) + taken.size() * size_t(row_bytes_),
                  values_.data() + i * size_t(row_bytes_), size_t(row_bytes_));
      const double waited = std::max(0.0, now - waiting_[i].born);
      seconds += waited;
      ++places[bits(waited)];
      taken.push_back(waiting_[i]);
    }
    const size_t left = waiting_.size() - taken.size();
    x_ = x;
    taken_.swap(taken);
    forget();
    py::list counts;
    for (const auto& [place, count] : places) counts.append(py::make_tuple(place, count));
    return py::make_tuple(x, slots, left, seconds, counts);
  }

  // Hands row i of y over to the i-th that was taken. An exception, as of Ctrl-C, comes after the last one.
  void finish(const py::array& y, const py::object& now) {
    check(y.ndim() > 0 && y.shape(0) == ptrdiff_t(taken_.size()), "StepGroup", "y has shape ", shape_of{y},
          ", expected ", taken_.size(), " rows");
    std::vector<Member> taken;
    taken.swap(taken_);
    x_ = py::none();
    std::optional<py::error_already_set> error;
    for (size_t i = 0; i < taken.size(); ++i) {
      try {
        const py::object row = row_of(y, ptrdiff_t(i));
        if (PyObject_SetAttr(taken[i].stream.ptr(), used_name, now.ptr())) throw py::error_already_set();
        if (!is_done(taken[i].future))
          owned(PyObject_CallMethodOneArg(taken[i].future.ptr(), set_result_name, row.ptr()));
      } catch (py::error_already_set& one) {
        error.emplace(std::move(one));
      }
    }
    if (error) throw py::error_already_set(*error);
  }

  // Those that were taken and have no result, then those that wait, as (stream, x, future, since when); they are the
  // caller's from here on.
  py::list spread() {
    py::list all;
    const auto add_all = [&](const std::vector<Member>& members, const char* values) {
      for (size_t i = 0; i < members.size(); ++i) {
        py::array x = rows(1);
        std::memcpy(x.mutable_data(), values + i * size_t(row_bytes_), size_t(row_bytes_));
        all.append(py::make_tuple(members[i].stream, x.attr("__getitem__")(0), members[i].future, members[i].born));
      }
    };
    if (!taken_.empty()) add_all(taken_, static_cast<const char*>(py::array(x_).data()));
    add_all(waiting_, values_.data());
    std::vector<Member> taken;
    taken.swap(taken_);
    forget();
    return all;
  }

  // Cancels those that were taken and have no result.
  void abandon() {
    std::vector<Member> taken;
    taken.swap(taken_);
    for (const Member& one : taken) one.future.attr("cancel")();
  }

  void clear() {
    std::vector<Member> taken;
    taken.swap(taken_);
    forget();
  }

  ptrdiff_t size() { return ptrdiff_t(waiting_.size()); }
  py::object owner() { return owner_ ? owner_ : py::none(); }

  int traverse(visitproc visit, void* arg) {
    for (const auto* members : {&waiting_, &taken_})
      for (const Member& one : *members) {
        Py_VISIT(one.stream.ptr());
        Py_VISIT(one.future.ptr());
      }
    for (const py::object* one : {&owner_, &new_future_, &inbox_}) Py_VISIT(one->ptr());
    return 0;
  }
  void untie() {
    clear();
    for (py::object* one : {&owner_, &new_future_, &inbox_}) py::object(std::move(*one));
    row_bytes_ = -1;
  }

 private:
  struct Member {
    py::object stream, future;
    double born;
  };

  bool takes(PyObject* x) const {
    if (row_bytes_ < 0 || Py_TYPE(x) != py::detail::npy_api::get().PyArray_Type_) return false;
    const auto* a = py::detail::array_proxy(x);
    const auto* type = py::detail::array_descriptor_proxy(a->descr);
    return a->nd == 1 && a->dimensions[0] == features_ && type->type_num == type_ && type->byteorder != '>' &&
           (features_ < 2 || a->strides[0] * features_ == row_bytes_);
  }

  template <class F>
  auto typed(const F& f) const {
    return type_ == py::dtype::num_of<float>() ? f(static_cast<float*>(nullptr)) : f(static_cast<double*>(nullptr));
  }

  py::array rows(ptrdiff_t count) const {
    return typed([&](auto* null) { return new_array<std::remove_pointer_t<decltype(null)>>({count, features_}); });
  }

  // In memory of its own, else a caller that keeps a row would keep the batch.
  py::object row_of(const py::array& y, ptrdiff_t i) const {
    return typed([&](auto* null) -> py::object {
      typedef std::remove_pointer_t<decltype(null)> T;
      if (y.ndim() != 2 || !is_of<T>(y) || (y.shape(1) > 1 && y.strides(1) != ptrdiff_t(sizeof(T))))
        return owned(PySequence_GetItem(y.ptr(), i)).attr("copy")();
      py::array row = new_array<T>({y.shape(1)});
      std::memcpy(row.mutable_data(), static_cast<const char*>(y.data()) + i * y.strides(0),
                  size_t(y.shape(1)) * sizeof(T));
      return row;
    });
  }

  static int bits(double seconds) {
    int count = 0;
    for (auto left = uint64_t(std::min(seconds, kMostSeconds) * 1e6); left; left >>= 1) ++count;
    return count;
  }

  void forget() {
    std::vector<Member> waiting;
    waiting.swap(waiting_);  // destroyed at the end, as that may run Python code
    streams_.clear();
  }

  ptrdiff_t features_ = 0, row_bytes_ = -1;
  int type_ = 0;
  py::object owner_, new_future_, inbox_;
  std::vector<Member> waiting_, taken_;
  std::unordered_set<PyObject*> streams_;  // of those that wait
  std::vector<char> values_;               // their inputs
  py::object x_ = py::none();              // of those that are taken
};

StepGroup* group_of(PyObject* self) {
  return reinterpret_cast<py::detail::instance*>(self)->get_value_and_holder().value_ptr<StepGroup>();
}

// Without pybind11's handling of arguments, which would cost as much as the rest.
PyObject* group_add(PyObject* self, PyObject* const* given, Py_ssize_t count) {
  if (count != 2)
    return PyErr_Format(PyExc_TypeError, "StepGroup.add: got %zd arguments, expected stream and x", count);
  StepGroup* const group = group_of(self);
  try {
    py::object future = group ? group->add(self, given[0], given[1]) : py::object();
    return future ? future.release().ptr() : py::none().release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  return nullptr;
}

PyMethodDef add_definition = {"add", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(group_add)),
                              METH_FASTCALL, "add($self, stream, x, /)\n--\n\nThe future of a step, or None."};

// By reference: for a pointer pybind11 takes None, too.
template <class R, class... A>
auto on_object(R (StepGroup::*f)(A...)) {
  return [f](StepGroup& self, A... given) { return (self.*f)(std::forward<A>(given)...); };
}

// Futures and streams refer to the pool, and it to them: garbage collection has to see that.
void collect_cycles(PyHeapTypeObject* heap) {
  PyTypeObject& type = heap->ht_type;
  type.tp_flags |= Py_TPFLAGS_HAVE_GC;
  type.tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    StepGroup* const group = group_of(self);
    return group ? group->traverse(visit, arg) : 0;
  };
  type.tp_clear = [](PyObject* self) {
    if (StepGroup* const group = group_of(self)) group->untie();
    return 0;
  };
}

}  // namespace

void register_step_group(py::module_& m) {
  py::class_<StepGroup> type(m, "StepGroup", py::custom_type_setup(collect_cycles));
  refuse_copies(type);
  type.def(py::init<const std::string&, ptrdiff_t, py::object, py::object, py::object>(), py::arg("dtype"),
           py::arg("features"), py::arg("owner"), py::arg("new_future"), py::arg("inbox"))
      .def("__len__", on_object(&StepGroup::size))
      .def_property_readonly("owner", on_object(&StepGroup::owner))
      .def("take", on_object(&StepGroup::take), py::arg("now"))
      .def("finish", on_object(&StepGroup::finish), py::arg("y"), py::arg("now"))
      .def("spread", on_object(&StepGroup::spread))
      .def("abandon", on_object(&StepGroup::abandon))
      .def("clear", on_object(&StepGroup::clear));
  group_type = reinterpret_cast<PyTypeObject*>(type.ptr());
  for (const auto& [to, name] :
       {std::pair{&append_name, "append"}, std::pair{&done_name, "done"}, std::pair{&set_result_name, "set_result"},
        std::pair{&slot_name, "slot"}, std::pair{&used_name, "used"}})
    *to = PyUnicode_InternFromString(name);
  type.attr("add") = py::reinterpret_steal<py::object>(PyDescr_NewMethod(group_type, &add_definition));
}

}  // namespace recurra::bindings
