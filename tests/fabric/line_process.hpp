// A child process that is talked to in lines: one that it is sent, one that it answers.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace weft::testing {

class line_process {
 public:
  // words[0] is the program.
  explicit line_process(std::vector<std::string> words);
  line_process(const line_process&) = delete;
  line_process& operator=(const line_process&) = delete;
  // Ends its input and checks that it leaves in order, unless it was killed.
  ~line_process();

  void write_line(const std::string& line) const;
  // Without its end; empty once the process has ended.
  std::string read_line() const;

  void kill();
  void freeze() const;
  void thaw() const;

 private:
  pid_t process_ = -1;
  int input_ = -1;
  int output_ = -1;
};

}  // namespace weft::testing
