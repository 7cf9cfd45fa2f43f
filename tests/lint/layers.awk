# Fails on an include that points upwards. usage: awk -f layers.awk FILE...
#   may[folder] lists the folders whose headers it may include with "..."
BEGIN {
	may["include/tranche"] = "tranche"
	may["src/rt"] = "tranche rt"
	may["src/slice"] = "tranche rt slice"
	may["src/gpu"] = "tranche rt gpu"
	may["src/keeper"] = "tranche rt slice gpu keeper"
	may["src/base"] = "tranche rt base"
	may["src/kube"] = "tranche rt base kube"
	may["src/rpc"] = "tranche rt rpc"
	may["src/bench"] = "tranche rt bench"
	may["src/cli"] = "tranche rt slice gpu keeper bench cli"
	may["deviceplugin"] = "tranche rt base slice gpu keeper kube rpc proto deviceplugin"
	may["hook"] = "tranche rt slice"
	# The simulator must not share a misunderstanding with what it judges.
	may["tests/sim"] = ""
}
FNR == 1 {
	folder = ""
	for (f in may)
		if (index(FILENAME, f "/") == 1 && length(f) > length(folder))
			folder = f
}
folder != "" && /^[ \t]*#[ \t]*include[ \t]*"[^"]*\// {
	split($0, part, "\"")
	top = substr(part[2], 1, index(part[2], "/") - 1)
	allowed = may[folder]
	if (folder == "tests/sim")
		bad = top == "tranche" || top == "slice" || top == "hook" || top == "keeper" || top == "gpu" || top == "cli" || top == "rt"
	else
		bad = index(" " allowed " ", " " top " ") == 0
	if (bad) {
		printf "%s:%d: %s may not include \"%s\"\n", FILENAME, FNR, folder, part[2]
		failed = 1
	}
}
# Whatever glibc gained after 2.17 and the guest's rules forbid, by name.
folder == "hook" && /[^_a-zA-Z>.](exit|abort|raise|fork|signal|sigaction|pthread_create|malloc|calloc|realloc|free|printf|fprintf|puts|umask|setenv|chdir|system|popen)[ \t]*\(/ && !/^[ \t]*(\/?\*|\/\/)/ {
	printf "%s:%d: the hook may not call this: %s\n", FILENAME, FNR, $0
	failed = 1
}
END {
	exit failed
}
