# Writes a source file with the bytes of the page's files:
#   cmake -DOUT=assets.cc -DFOLDER=page -P assets.cmake
set(types_html "text/html; charset=utf-8")
set(types_css "text/css; charset=utf-8")
set(types_js "text/javascript; charset=utf-8")
set(types_svg "image/svg+xml")
set(types_json "application/json")
set(arrays "")
set(rows "")
set(number 0)
file(GLOB files RELATIVE ${FOLDER} ${FOLDER}/*)
foreach(file ${files})
  cmake_path(GET file EXTENSION LAST_ONLY extension)
  string(SUBSTRING ${extension} 1 -1 extension)
  file(READ ${FOLDER}/${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
  string(APPEND arrays "constexpr char kBytes${number}[] = {${bytes}};\n")
  string(APPEND rows "    {\"/${file}\", \"${types_${extension}}\", {kBytes${number}, sizeof kBytes${number}}},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE ${OUT} "#include \"web/assets.h\"

namespace postrider::web {

namespace {

${arrays}
constexpr Asset kAssets[] = {
${rows}};

}  // namespace

const Asset* find_asset(std::string_view path) {
  for (const auto& asset : kAssets)
    if (path == asset.path)
      return &asset;
  return nullptr;
}

}  // namespace postrider::web
")
