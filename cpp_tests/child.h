// A forked child that answers by its exit code.
#pragma once
#include <sys/wait.h>
#include <unistd.h>

namespace recurra {

// What a child answers: its exit code, or -1 if it crashed or did not end within 5 s.
template <class F>
int answer_of_child(F child) {
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(5);  // ends a child that hangs, and each child of it likewise
    _exit(child());
  }
  int status = 0;
  return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace recurra
