// Errors in arguments. A message begins with the operation, then says what was got, what was expected and how to fix
// it.
#pragma once
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

namespace recurra {

// A wrong type rather than a wrong value: the bindings raise TypeError for it, ValueError for other invalid_arguments.
class TypeMismatch : public std::invalid_argument {
 public:
  TypeMismatch(const char* operation, const std::string& message)
      : std::invalid_argument(std::string(operation) + ": " + message) {}
};

[[noreturn]] inline void fail(const char* operation, const std::string& message) {
  throw std::invalid_argument(std::string(operation) + ": " + message);
}

// Throws unless `ok`. The message is formatted from `parts` only on failure.
template <class... Parts>
void check(bool ok, const char* operation, const Parts&... parts) {
  if (ok) return;
  std::ostringstream text;
  (text << ... << parts);
  fail(operation, text.str());
}

// A shape in Python's notation: "(2, 3, 5)", "(7,)", "()".
inline std::string shape_text(const int64_t* dims, int rank) {
  std::ostringstream text;
  text << '(';
  for (int axis = 0; axis < rank; ++axis) text << (axis > 0 ? ", " : "") << dims[axis];
  text << (rank == 1 ? ",)" : ")");
  return text.str();
}

}  // namespace recurra
