#pragma once

#include <string_view>

namespace weft::launcher::gateway {

// Takes the same time wherever the two differ; only the length can be told from it.
bool same_token(std::string_view expected, std::string_view shown);

// "localhost", 127.0.0.0/8, ::1 and Unix sockets: addresses that no other machine reaches.
bool is_loopback(std::string_view host);

}  // namespace weft::launcher::gateway
