#include "ucx_pair.hpp"

#define WEFT_TRANSPORT_PAIRS tcp_pair, shared_memory_pair, shared_memory_gets_pair
#include "contract.hpp"
#include "landing_contract.hpp"
