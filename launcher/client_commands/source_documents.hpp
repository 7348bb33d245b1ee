// The documents that files hold: a text file is one, a .jsonl file has one in each line.
#pragma once

#include <weft/base/error.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace weft::launcher {

struct source_document {
  std::string name;              // the file's name, or the line's "id"
  std::string text;              // any bytes
  std::uint64_t bytes_read = 0;  // of the file, this document included
};

// Whether to go on with the next document.
enum class step { next, stop };

// Gives every document of `file` to `take`, one after the other; what cannot be taken as a document goes to
// `refuse`, and the rest of the file is read all the same.
void for_each_document(const std::filesystem::path& file, const std::function<step(source_document)>& take,
                       const std::function<void(const error&)>& refuse);

// One line of a .jsonl file. `where` names it in errors.
result<source_document> parse_document_line(const std::string& line, const std::string& where);

}  // namespace weft::launcher
