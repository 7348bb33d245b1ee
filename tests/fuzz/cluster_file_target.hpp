// What is done with text that may be a cluster file.
#pragma once

#include <string_view>

namespace weft::fuzz {

// Parses it; there must be a cluster with sound nodes or mistakes that each take one line with their place.
// Returns whether there was a cluster. Errors are memory errors, for a sanitizer to find, and exceptions.
bool read_as_cluster_file(std::string_view text);

}  // namespace weft::fuzz
