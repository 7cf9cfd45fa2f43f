# Drops `service NAME { ... }` of a .proto file: an rpc named Register makes protoc-c write a
# struct member of that name in lower case, which C reserves.
/^service[ \t]/ { inside = 1 }
inside {
	line = $0
	sub(/\/\/.*/, "", line)
	depth += gsub(/{/, "", line)
	depth -= gsub(/}/, "", line)
	if (depth == 0)
		inside = 0
	next
}
{ print }
