#include <weft/fabric/arrival.hpp>
#include <weft/fabric/transport.hpp>

namespace weft::fabric {

void transport::drive(const std::function<void()>& begin, arrival& until) {
  begin();
  until.wait();
}

}  // namespace weft::fabric
