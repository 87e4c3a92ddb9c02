package hostsql

import (
	"context"
	"fmt"
	"slices"
)

// CarvePaths returns the paths that a query of table carves names, sorted: those
// of path = as they are, and what the patterns of path LIKE find now, by the
// rules of table file. More than most is an error, as "/%%" is a whole disk.
// (osquery/tables/forensic/carves.cpp).
func CarvePaths(ctx context.Context, q Constraints, most int) ([]string, error) {
	paths := slices.Clone(q.Equal("path"))
	for _, pattern := range q.Like("path") {
		err := expand(ctx, pattern, 0, func(path string, dir bool) error {
			if dir {
				path += "/"
			}
			if len(paths) >= most {
				return &Error{Message: fmt.Sprintf("%s names more than %d files", pattern, most)}
			}
			paths = append(paths, path)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}
