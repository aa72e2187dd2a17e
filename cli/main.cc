#include "cli/programs.h"

int main(int argc, char** argv) {
  return postrider::cli::dispatch(argc, argv);
}
