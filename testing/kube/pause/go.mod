module moonshot.test/pause

go 1.26
