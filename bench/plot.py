"""The benchmark's figures as SVG, for the README, drawn by gnuplot (package gnuplot-nox)."""
import subprocess

SCRIPT = """
set terminal svg size 900,{height} font "sans,12" background rgb "white"
set output "{path}"
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.85 border -1
set logscale y 10
set ylabel "messages relayed a second"
set xtics rotate by -30 noenhanced
set key top right
set grid ytics
plot for [i=2:{last}] $figures using i:xtic(1) title columnheader(i)
"""


def relay_rates(report, names, path):
    """Clustered bars of messages a second, one group a row, on a logarithmic axis."""
    lines = ['row ' + " ".join(names)]
    for row, figures in report["rows"].items():
        lines.append(f'"{row}" ' + " ".join(str(figures[name]["rate"]) for name in names))
    data = "$figures << EOD\n" + "\n".join(lines) + "\nEOD\n"
    script = data + SCRIPT.format(height=520, path=path, last=len(names) + 1)
    subprocess.run(["gnuplot"], input=script, text=True, check=True)
